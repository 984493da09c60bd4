package stage

import "time"

// SetNow gives Results another clock.
func SetNow(r *Results, now func() time.Time) { r.now = now }

// Expire sets the TTL of a stage of a pipeline.
func Expire(last Any, name string, ttl time.Duration) {
	n := last.node()
	if n.name == name {
		n.ttl = ttl
	}
	for _, a := range n.above {
		Expire(&Stage[int]{a}, name, ttl)
	}
}
