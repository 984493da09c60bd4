//go:build !race

package datafile

const poisonsFreed = false
