package stage

import (
	"context"
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

// DelayInfo delays every answer about a stored result of the named stage.
func DelayInfo(r *Results, stage string, delay time.Duration) {
	r.backend = slowBackend{r.backend, stage, delay}
}

type slowBackend struct {
	backend
	stage string
	delay time.Duration
}

func (s slowBackend) info(ctx context.Context, key string) (*Info, error) {
	i, err := s.backend.info(ctx, key)
	if i != nil && i.Stage == s.stage {
		time.Sleep(s.delay)
	}
	return i, err
}
