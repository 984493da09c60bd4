module github.com/go-partd/partd/bench

go 1.26.0

require github.com/go-partd/partd v0.0.0

require (
	github.com/gofrs/flock v0.13.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/go-partd/partd => ../
