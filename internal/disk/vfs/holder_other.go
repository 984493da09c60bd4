//go:build !linux && !darwin

package vfs

func processStart(int) string { return "" }
