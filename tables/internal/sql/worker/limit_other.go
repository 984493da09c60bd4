//go:build !linux

package worker

import "math"

// Limit does nothing: only Linux can limit the memory of a process.
func Limit(int64) error { return nil }

// Growth returns the largest possible value, because the growth is unknown.
func Growth() int64 { return math.MaxInt64 }

func killFirst() {}
