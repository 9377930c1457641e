"""What a server does when callers behave badly: a suite that asks any of them, Frontrow and its peers alike."""
