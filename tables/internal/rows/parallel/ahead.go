package parallel

import "iter"

// Ahead yields items. In the meantime, it prepares the next n in a goroutine. It calls drop for items that were
// prepared, but not yielded; drop must be safe for concurrent use. If items panics, so does Ahead, unless the consumer has
// already stopped.
func Ahead[T any](items iter.Seq2[T, error], n int, drop func(T)) iter.Seq2[T, error] {
	type result struct {
		item  T
		err   error
		panic any
	}
	return func(yield func(T, error) bool) {
		results, stopped := make(chan result, n-1), make(chan struct{})
		go func() {
			defer close(results)
			defer func() {
				if p := recover(); p != nil {
					results <- result{panic: p}
				}
			}()
			for item, err := range items {
				r := result{item: item, err: err}
				select {
				case <-stopped: // checked first, because the results are still received then
				default:
					select {
					case results <- r:
						continue
					case <-stopped:
					}
				}
				if err == nil {
					drop(item)
				}
				return
			}
		}()
		defer func() {
			close(stopped)
			for r := range results {
				if r.err == nil && r.panic == nil {
					drop(r.item)
				}
			}
		}()
		for r := range results {
			if r.panic != nil {
				panic(r.panic)
			}
			if !yield(r.item, r.err) || r.err != nil {
				return
			}
		}
	}
}
