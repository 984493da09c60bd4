package stage

import (
	"time"

	"github.com/go-partd/partd"
)

// SetNow replaces the clock of Results.
func SetNow(r *Results, now func() time.Time) { r.now = now }

// Expire sets the TTL of a stage in a pipeline.
func Expire(last Any, name string, ttl time.Duration) {
	n := last.node()
	if n.name == name {
		n.ttl = ttl
	}
	for _, a := range n.ancestors {
		Expire(&Stage[int]{a}, name, ttl)
	}
}

// WrapStore replaces the store of results in the directory.
func WrapStore(r *Results, wrap func(partd.Partd) partd.Partd) {
	r.backend = &dirBackend{wrap(r.local), r}
}
