//go:build !linux && !darwin

package boot

func session() string { return "" }
