package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/inside"
	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry"
)

// lookFlags say how images and containers are looked into.
type lookFlags struct {
	fetchFlags
	partition  string
	passphrase string // file
}

func (f *lookFlags) register(flags *pflag.FlagSet) {
	f.fetchFlags.register(flags)
	flags.StringVar(&f.partition, "partition", "", "the number, name or label of the `partition` of a disk (default: the root file system)")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "a `file` with the passphrase of what is encrypted; - reads it from standard input")
}

func (f *lookFlags) inside(s *session) (inside.Options, error) {
	opts := inside.Options{Platform: f.platform, Log: s.log}
	if f.passphrase == "" {
		return opts, nil
	}
	secret, err := s.readSecret(f.passphrase)
	opts.Passphrase = secret
	return opts, err
}

// readSecret reads a password or a passphrase from a file, or with - from standard input. A newline at the end does not count.
func (s *session) readSecret(name string) ([]byte, error) {
	const longest = 8 << 20 // bytes, of a key file: cryptsetup(8)
	in := s.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, longest))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return bytes.TrimSuffix(data, []byte("\n")), nil
}

// imageFile tells files from containers: what begins with a dot or a slash is a file, and so is what a file lies at. A directory counts only with a slash.
func (f *lookFlags) imageFile(arg string) (inside.Name, bool) {
	name := inside.ParseName(arg)
	if f.partition != "" {
		name.Parts = append([]string{f.partition}, name.Parts...)
	}
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return name, true
	}
	info, err := os.Stat(name.File)
	return name, err == nil && (!info.IsDir() || strings.Contains(arg, "/"))
}

// look opens an image file or a container, and runs work with its tree and the path that its name ends with.
func (s *session) look(cmd *cobra.Command, flags *lookFlags, arg string, work func(tree *layers.Tree, path string) error) error {
	name, ok := flags.imageFile(arg)
	if !ok {
		if flags.partition != "" {
			return fmt.Errorf("looking into %s: there is no such file, and a container has no partitions", arg)
		}
		return s.lookIntoContainer(cmd, flags, arg, work)
	}
	// Some formats can only be unpacked, and then owners matter; the others do without.
	if err := userns.Enter(); err != nil {
		s.log.Debug("owners of unpacked files are the user's", "reason", err)
	}
	opts, err := flags.inside(s)
	if err != nil {
		return err
	}
	image, err := inside.Open(cmd.Context(), name, opts)
	if err != nil {
		return err
	}
	s.log.Debug("opened an image", "file", name.File, "type", image.Kind)
	err = work(image.Tree, name.Path)
	return errors.Join(err, image.Close())
}

func (s *session) lookIntoContainer(cmd *cobra.Command, flags *lookFlags, name string, work func(tree *layers.Tree, path string) error) error {
	opts, err := flags.options()
	if err != nil {
		return err
	}
	return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
		tree, err := s.openTree(cmd.Context(), client, name, opts)
		if err != nil {
			return err
		}
		defer tree.Close()
		return work(tree.Tree, ".")
	})
}

func (s *session) openTree(ctx context.Context, client *registry.Client, name string, opts registry.FetchOptions) (*container.Tree, error) {
	image, err := client.Fetch(ctx, name, opts)
	if err != nil {
		return nil, fmt.Errorf("%w; a file %s is not there either", err, name)
	}
	tree, err := container.Open(ctx, image.Image, image, container.Options{Log: s.log})
	if err != nil {
		return nil, fmt.Errorf("reading container %s: %w", name, err)
	}
	return tree, nil
}

// below returns the tree that begins at a directory of a tree.
func below(tree *layers.Tree, path string) (*layers.Tree, error) {
	resolved, node, err := tree.Resolve(path)
	if err != nil {
		return nil, err
	}
	if resolved == "." {
		return tree, nil
	}
	edit := layers.NewTree().Edit(layers.Timespec{})
	if err := edit.Put(".", node); err != nil {
		return nil, fmt.Errorf("opening /%s: it is a %s, not a directory", resolved, layers.TypeName(node.Mode))
	}
	return edit.Tree(), nil
}

func newCat(s *session) *cobra.Command {
	var flags lookFlags
	cmd := &cobra.Command{
		Use:   "cat IMAGE|NAME[:TAG] PATH...",
		Short: "Print files in an image or a container",
		Long:  "Print the content of files in an image of any type, or in a container, without mounting anything. See ls for the names of images.",
		Example: `  imgbuild cat out/web.x86_64-1.0.0.qcow2 /etc/fstab
  imgbuild cat 'disk.raw#EFI:/EFI/BOOT/grub.cfg'
  imgbuild cat debian:12 /etc/os-release`,
		DisableFlagsInUseLine: true,
		GroupID:               groupContainers,
		Args:                  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.look(cmd, &flags, args[0], func(tree *layers.Tree, path string) error {
				paths := args[1:]
				if len(paths) == 0 {
					if path == "" || path == "." {
						return &usageError{err: errors.New("no file in it is named"), command: cmd.CommandPath()}
					}
					paths = []string{path}
				}
				for _, path := range paths {
					if err := writeFile(s.stdout, tree, path); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

// writeFile writes the content of a file in a tree.
func writeFile(w io.Writer, tree *layers.Tree, path string) error {
	resolved, node, err := tree.Resolve(path)
	if err != nil {
		return fmt.Errorf("reading /%s: %w", layers.Clean(path), err)
	}
	if node.IsDir() {
		return fmt.Errorf("reading /%s: it is a directory: imgbuild ls lists it, imgbuild extract takes it out", resolved)
	}
	r, err := node.Open()
	if err != nil {
		return fmt.Errorf("reading /%s: %w", resolved, err)
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("reading /%s: %w", resolved, err)
	}
	return nil
}

func newExtract(s *session) *cobra.Command {
	var flags lookFlags
	var output string
	var force bool
	cmd := &cobra.Command{
		Use:   "extract IMAGE|NAME[:TAG] [PATH] --output DIR|FILE|FILE.tar|-",
		Short: "Take files out of an image or a container",
		Long: `Write the tree in an image of any type, or in a container, or a directory of it, as a directory, as a tar
archive or, with -, as a tar stream to standard output. A PATH that is a file is written as that file.`,
		Example: `  imgbuild extract out/web.x86_64-1.0.0.qcow2 --output tree
  imgbuild extract old.vmdk /etc --output - | tar -tv
  imgbuild extract web.raw /boot/vmlinuz --output vmlinuz`,
		DisableFlagsInUseLine: true,
		GroupID:               groupContainers,
		Args:                  cobra.RangeArgs(1, 2),
		Annotations:           map[string]string{needsOwners: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.look(cmd, &flags, args[0], func(tree *layers.Tree, path string) error {
				if len(args) == 2 {
					path = args[1]
				}
				if resolved, node, err := tree.Resolve(path); err == nil && node.IsRegular() {
					return s.extractFile(tree, resolved, node, output)
				}
				part, err := below(tree, path)
				if err != nil {
					return fmt.Errorf("extracting /%s: %w", layers.Clean(path), err)
				}
				return s.export(cmd.Context(), part, output, layers.DirOptions{Overwrite: force})
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&output, "output", "", "a `directory`, a file, a file that ends in .tar, or - for standard output")
	cmd.Flags().BoolVar(&force, "force", false, "write into a directory that is not empty")
	_ = cmd.MarkFlagRequired("output") // the flag is defined above
	return cmd
}

// extractFile writes one file: to standard output, into a directory that is there, or as a file.
func (s *session) extractFile(tree *layers.Tree, path string, node *layers.Node, output string) error {
	if output == "-" {
		return writeFile(s.stdout, tree, path)
	}
	if info, err := os.Stat(output); err == nil && info.IsDir() {
		output = filepath.Join(output, filepath.Base(path))
	}
	return atomicfile.Write(output, os.FileMode(node.Perm()&0o777), func(f *os.File) error { return writeFile(f, tree, path) })
}
