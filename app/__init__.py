"""The HTTP service: it takes requests, splits visitors between two models, and answers with an order."""
