//go:build !linux

package procs

// TempInMemory does nothing, because only Linux has /dev/shm.
func TempInMemory() {}
