// Package offheap allocates memory outside the Go heap. The collector ignores such memory when it
// decides how far the heap may grow before the next collection. The caller must release it exactly
// once and must not use it afterwards. Systems without anonymous mmap(2) use the heap.
package offheap
