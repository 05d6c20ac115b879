"""What tenants pay for: plans, subscriptions, usage pushed to the payment provider and compared with it."""
