package request

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Root is a directory in which .proto files are looked for. Files whose
// import path begins with Prefix lie in Dir under what remains of that path.
type Root struct {
	Prefix, Dir string
}

// ParseRoot reads a Root written as [prefix=]dir.
func ParseRoot(text string) (Root, error) {
	prefix, dir, found := strings.Cut(text, "=")
	if !found {
		prefix, dir = "", text
	}
	if dir == "" {
		return Root{}, fmt.Errorf("root %q: no directory", text)
	}
	return Root{Prefix: prefix, Dir: dir}, nil
}

// ParseModuleRoot reads a Root written as [prefix=]module[//directory], where
// module is the path of a Go module that the current one requires. It asks the
// go command where the module lies.
func ParseModuleRoot(ctx context.Context, text string) (Root, error) {
	root, err := ParseRoot(text)
	if err != nil {
		return Root{}, err
	}
	module, below, _ := strings.Cut(root.Dir, "//")
	var stderr bytes.Buffer
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "--", module)
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return Root{}, fmt.Errorf("module %s: %w: %s", module, err, strings.TrimSpace(stderr.String()))
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return Root{}, fmt.Errorf("module %s: it is not on this machine; try go mod download", module)
	}
	root.Dir = filepath.Join(dir, filepath.FromSlash(below))
	return root, nil
}

// open opens the file with the given import path in the first of roots that
// has it.
func open(roots []Root, path string) (io.ReadCloser, error) {
	for _, root := range roots {
		below, ok := strings.CutPrefix(path, root.Prefix)
		if !ok || !fs.ValidPath(below) {
			continue
		}
		f, err := os.Open(filepath.Join(root.Dir, filepath.FromSlash(below)))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: %w in any root", path, fs.ErrNotExist)
}
