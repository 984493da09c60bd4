package remote

func makePrivate(uintptr) {}
