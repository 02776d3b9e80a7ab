package hook

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The committed stubs are those that the protocol's .proto gives now: `go generate` writes them.
func TestCommittedStubsAreFresh(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	tools := []string{filepath.Join(root, "node_modules/.bin"), filepath.Join(root, ".cache/bin"), os.Getenv("PATH")}
	t.Setenv("PATH", strings.Join(tools, string(os.PathListSeparator)))
	for _, tool := range []string{"buf", "protoc-gen-go", "protoc-gen-go-grpc"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing", tool)
			}
			t.Skipf("%s is missing", tool)
		}
	}
	scratch := t.TempDir()
	generate := exec.Command("buf", "generate", "--template", "buf.gen.go.yaml", "-o", scratch)
	generate.Dir = root
	if output, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, name := range []string{"hook.pb.go", "hook_grpc.pb.go"} {
		fresh, err := os.ReadFile(filepath.Join(scratch, "clients/go/hookv1", name))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join("hookv1", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(fresh, committed) {
			t.Errorf("hookv1/%s is stale: run go generate", name)
		}
	}
}
