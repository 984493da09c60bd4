// Package offheap allocates memory outside the Go heap. Such memory does not delay garbage
// collection, and the heap's growth does not double it. The caller must release it exactly once
// and must not use it afterwards. Systems without anonymous mmap(2) use the heap.
package offheap
