package worker

import "fmt"

// DeathError is the end of a worker that had not done its job.
type DeathError struct {
	Memory bool   // it had no more
	State  string // how it ended
}

func (e *DeathError) Error() string {
	if e.Memory {
		return "its process had no more memory"
	}
	return fmt.Sprintf("its process ended: %s", e.State)
}
