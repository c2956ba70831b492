"""Operate: what a person does with a running environment: plan, status, explain, verify, doctor, feed check."""
