// Package offheap allocates memory outside the Go heap: it neither doubles when
// the collector lags behind nor makes the collector work more. A caller frees it
// once, and does not touch it afterwards. On systems without anonymous mmap(2) it
// is on the heap after all.
package offheap
