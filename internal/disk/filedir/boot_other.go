//go:build !linux && !darwin

package filedir

func bootSession() string { return "" }
