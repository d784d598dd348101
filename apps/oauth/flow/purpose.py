"""What a flow is for. A value made for one purpose is refused by the other."""


class Purpose:
    LOGIN = "login"
    LINK = "bind"  # a signed-in user adds a QQ: such a flow logs nobody in
