//go:build !linux && !darwin

package vfs

// processStart returns "" because nothing distinguishes processes here.
func processStart(int) string { return "" }
