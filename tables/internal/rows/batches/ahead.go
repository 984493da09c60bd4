package batches

import "iter"

// Ahead yields items, such as batches, and prepares the next n in a goroutine. It releases prepared items that it does
// not yield; Release must be safe for concurrent use. If items panics, so does Ahead, unless the consumer has already
// stopped.
func Ahead[T interface{ Release() }](items iter.Seq2[T, error], n int) iter.Seq2[T, error] {
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
				case <-stopped: // checked first, because results are received even after the consumer has stopped
				default:
					select {
					case results <- r:
						continue
					case <-stopped:
					}
				}
				if err == nil {
					item.Release()
				}
				return
			}
		}()
		defer func() {
			close(stopped)
			for r := range results {
				if r.err == nil && r.panic == nil {
					r.item.Release()
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
