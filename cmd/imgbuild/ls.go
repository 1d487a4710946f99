package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry"
)

func newLs(s *session) *cobra.Command {
	var flags fetchFlags
	var recursive bool
	cmd := &cobra.Command{
		Use:     "ls NAME[:TAG] [PATH]",
		Short:   "List the files of a container",
		GroupID: groupContainers,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := flags.options()
			if err != nil {
				return err
			}
			path := "."
			if len(args) == 2 {
				path = args[1]
			}
			return s.withTree(cmd, &flags.storeFlags, args[0], opts, func(tree *layers.Tree) error {
				return listTree(s.stdout, tree, path, recursive)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list what is in directories too")
	return cmd
}

// withTree runs work with the root tree of a container.
func (s *session) withTree(cmd *cobra.Command, flags *storeFlags, name string, opts registry.FetchOptions, work func(*layers.Tree) error) error {
	return s.withClient(cmd, flags, func(client *registry.Client) error {
		tree, err := s.openTree(cmd.Context(), client, name, opts)
		if err != nil {
			return err
		}
		defer tree.Close()
		return work(tree.Tree)
	})
}

func (s *session) openTree(ctx context.Context, client *registry.Client, name string, opts registry.FetchOptions) (*container.Tree, error) {
	image, err := client.Fetch(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	tree, err := container.Open(ctx, image.Image, image, container.Options{Log: s.log})
	if err != nil {
		return nil, fmt.Errorf("reading container %s: %w", name, err)
	}
	return tree, nil
}

// listTree writes the entry at path, or those of the directory there, in the manner of ls -l.
func listTree(w io.Writer, tree *layers.Tree, path string, recursive bool) error {
	resolved, node, err := tree.Resolve(path)
	if err != nil {
		return fmt.Errorf("listing /%s: %w", layers.Clean(path), err)
	}
	if !node.IsDir() {
		return listNode(w, resolved, node)
	}
	return listDir(w, "", node, recursive)
}

func listDir(w io.Writer, prefix string, dir *layers.Node, recursive bool) error {
	for _, name := range dir.Names() {
		child := dir.Child(name)
		if err := listNode(w, prefix+name, child); err != nil {
			return err
		}
		if recursive && child.IsDir() {
			if err := listDir(w, prefix+name+"/", child, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func listNode(w io.Writer, name string, n *layers.Node) error {
	length := strconv.FormatInt(n.Size, 10)
	if n.IsDevice() {
		length = fmt.Sprintf("%d, %d", n.Major, n.Minor)
	}
	text := printable(name)
	if n.IsSymlink() {
		text += " -> " + printable(n.Target)
	}
	_, err := fmt.Fprintf(w, "%s %5d %5d %12s %s %s\n", layers.FileMode(n.Mode), n.UID, n.GID, length, date(n.MTime.Time()), text)
	return err
}

// printable shows a name of any bytes in one line; a name that is plain stays as it is.
func printable(name string) string {
	quoted := strconv.Quote(name)
	if quoted == `"`+name+`"` {
		return name
	}
	return quoted
}
