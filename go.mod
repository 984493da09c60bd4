module github.com/go-partd/partd

go 1.26

require github.com/gofrs/flock v0.13.1

require golang.org/x/sys v0.47.0 // indirect
