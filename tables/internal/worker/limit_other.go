//go:build !linux

package worker

// Limit does nothing: only Linux bounds the memory of a process.
func Limit(int64) error { return nil }

// Grown reports that it may have.
func Grown(int64) bool { return true }

func expendable() {}
