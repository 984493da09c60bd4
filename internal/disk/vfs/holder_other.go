//go:build !linux && !darwin

package vfs

func processStart(int) string { return "" }

// BootSession returns "", because partd knows no identifier of the machine's last start on this system.
func BootSession() string { return "" }
