//go:build unix && !linux

package offheap

func useHugePages([]byte) {}
