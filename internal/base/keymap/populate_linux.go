package keymap

import "golang.org/x/sys/unix"

// populate makes the kernel provide all pages of b at once, which is faster than a page fault for
// each page.
func populate(b []byte) {
	_ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) // only an optimization, which Linux before 5.14 lacks
}
