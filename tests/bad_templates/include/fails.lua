

error("not today")
