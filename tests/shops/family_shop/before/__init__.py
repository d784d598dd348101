"""What the shop had in the place of the app, and has again after the way back."""
