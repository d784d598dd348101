"""The code that the shop had before it installed the app, and has again after going back."""
