return use("itself")
