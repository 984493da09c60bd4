//go:build !linux

package logstore

func useHugePages([]byte) {}
