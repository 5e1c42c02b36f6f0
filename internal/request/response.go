package request

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"google.golang.org/protobuf/types/pluginpb"
)

// Write writes the files of a plugin's response below dir. It writes none if
// the plugin reports an error, wants what protoc alone can do, or gives a file
// twice.
func Write(dir string, response *pluginpb.CodeGeneratorResponse) error {
	return each(response, func(name string, content []byte) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o666)
	})
}

// Check reports each file below dir that Write would change.
func Check(dir string, response *pluginpb.CodeGeneratorResponse) error {
	var stale []error
	err := each(response, func(name string, content []byte) error {
		path := filepath.Join(dir, name)
		have, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			stale = append(stale, fmt.Errorf("%s: is missing", path))
		case err != nil:
			return err
		case !bytes.Equal(have, content):
			stale = append(stale, fmt.Errorf("%s: is out of date", path))
		}
		return nil
	})
	return errors.Join(append(stale, err)...)
}

func each(response *pluginpb.CodeGeneratorResponse, do func(name string, content []byte) error) error {
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	seen := make(map[string]bool)
	for _, f := range response.File {
		if f.InsertionPoint != nil {
			return fmt.Errorf("%s: insertion points need protoc", f.GetName())
		}
		if !filepath.IsLocal(f.GetName()) {
			return fmt.Errorf("%s: lies outside of the output directory", f.GetName())
		}
		name := path.Clean(f.GetName())
		if seen[name] {
			return fmt.Errorf("%s: the plugin gave this file twice", name)
		}
		seen[name] = true
	}
	for _, f := range response.File {
		if err := do(filepath.FromSlash(f.GetName()), []byte(f.GetContent())); err != nil {
			return err
		}
	}
	return nil
}
