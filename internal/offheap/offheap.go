// Package offheap takes memory from the system without the Go heap: it neither
// doubles when the collector lags behind nor makes it work more. Whoever takes
// it gives it back, once, and touches it no more afterwards. Where the system
// has no anonymous mmap(2), it is the heap's after all.
package offheap
