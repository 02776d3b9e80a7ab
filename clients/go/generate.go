package hook

// Needs buf, protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.6.2 in the PATH.
//go:generate sh -c "cd ../.. && buf generate --template buf.gen.go.yaml"
