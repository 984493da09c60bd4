//go:build race

package datafile

// poisonsFreed makes the recycler overwrite freed memory, so that tests fail if anything still reads it.
const poisonsFreed = true
