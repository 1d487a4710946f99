package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/registry"
)

func newInspect(s *session) *cobra.Command {
	var flags fetchFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect NAME[:TAG]",
		Short:   "Show a container's layers and config",
		GroupID: groupContainers,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := flags.options()
			if err != nil {
				return err
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				image, err := client.Fetch(cmd.Context(), args[0], opts)
				if err != nil {
					return err
				}
				about, err := registry.Inspect(image)
				if err != nil {
					return fmt.Errorf("inspecting %s: %w", args[0], err)
				}
				if asJSON {
					return s.writeJSON(about)
				}
				return s.showInspected(about)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (s *session) showInspected(about *registry.Details) error {
	platform := about.OS + "/" + about.Architecture
	if about.Variant != "" {
		platform += "/" + about.Variant
	}
	t := tabwriter.NewWriter(s.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "Name:\t%s\nDigest:\t%s\nPlatform:\t%s\nCreated:\t%s\nSize:\t%s\n", about.Name, about.Digest, platform,
		date(about.Created), size(about.Size))
	if about.Author != "" {
		fmt.Fprintf(t, "Author:\t%s\n", about.Author)
	}
	if command := slices.Concat(about.Entrypoint, about.Cmd); len(command) > 0 {
		fmt.Fprintf(t, "Runs:\t%s\n", strings.Join(command, " "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout)
	rows := make([][]string, len(about.Layers))
	for i, l := range about.Layers {
		comment := l.Comment
		if comment == "" {
			comment = l.CreatedBy
		}
		comment = strings.Join(strings.Fields(comment), " ")
		if len(comment) > 60 {
			comment = comment[:57] + "..."
		}
		rows[i] = []string{shortDigest(l.Digest), size(l.Size), date(l.Created), comment}
	}
	return table(s.stdout, []string{"LAYER", "SIZE", "CREATED", "COMMENT"}, rows)
}
