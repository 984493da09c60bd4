module github.com/go-partd/partd/objstore

go 1.26.0

require (
	github.com/go-partd/partd v0.0.0
	github.com/zeebo/xxh3 v1.1.0
)

require (
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/klauspost/cpuid/v2 v2.2.10 // indirect
	golang.org/x/sys v0.49.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace github.com/go-partd/partd => ../
