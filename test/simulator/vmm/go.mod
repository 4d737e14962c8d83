module torpor/test/simulator/vmm

go 1.26.0

require (
	connectrpc.com/connect v1.21.1
	golang.org/x/sys v0.49.0
	torpor/guest/envd v0.0.0
)

require google.golang.org/protobuf v1.36.12 // indirect

replace torpor/guest/envd => ../../../guest/envd
