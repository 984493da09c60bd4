package must

import (
	"fmt"
	"sync"
	"time"
)

// Eventually waits until condition is true. It ends the test if condition is still false after d. failure says what
// is wrong then.
func Eventually(t TB, d time.Duration, failure string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(fmt.Sprintf("after %v: %s", d, failure))
		}
	}
}

// Receive returns the next value from ch, or the zero value if ch is closed. It ends the test if nothing happens within
// d. label says what the test waits for.
func Receive[T any](t TB, ch <-chan T, d time.Duration, label string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(d):
		t.Fatal(fmt.Sprintf("waited %v for this: %s", d, label))
		return *new(T)
	}
}

// NotReceive ends the test if a value arrives from ch within d, or if ch is closed. label says what the value would
// mean.
func NotReceive[T any](t TB, ch <-chan T, d time.Duration, label string) {
	t.Helper()
	select {
	case v := <-ch:
		t.Fatal(fmt.Sprintf("received %v, which means: %s", v, label))
	case <-time.After(d):
	}
}

// Concurrently calls f with the numbers from 0 to n-1, each in its own goroutine, and returns when all calls have
// returned. f must not end the test: it reports errors with Check and Fail.
func Concurrently(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
