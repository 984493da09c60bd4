package shuffle

// ThreeServers starts servers, and returns their URL.
var ThreeServers = threeServers
