package offheap

import "golang.org/x/sys/unix"

// useHugePages asks for large pages, since what is sorted or hashed is touched
// all over. It is a wish, so a refusal is no error.
func useHugePages(b []byte) {
	if len(b) >= 2<<20 {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
