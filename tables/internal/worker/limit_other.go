//go:build !linux

package worker

// Limit does nothing: only Linux can limit the memory of a process.
func Limit(int64) error { return nil }

// HasGrown returns true, because the process may have grown.
func HasGrown(int64) bool { return true }

func killFirst() {}
