module github.com/go-partd/partd/bench

go 1.26.0

require github.com/go-partd/partd v0.0.0

replace github.com/go-partd/partd => ../
