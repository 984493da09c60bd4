//go:build !linux

package keymap

func populate([]byte) {}
