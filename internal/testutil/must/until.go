package must

import "time"

// Until waits until condition returns true. It ends the test with the given message if that takes longer than limit.
func Until(t TB, limit time.Duration, failure string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(failure)
		}
	}
}
