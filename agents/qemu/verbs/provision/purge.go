package provision

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/qemu/verbs/job"
	"etcpve/cfs/format/schema"
)

func (j Work) read(ctx context.Context, path string) (string, error) {
	content, err := j.Read(ctx, path)
	return string(content), job.Gone(err)
}

// highlyAvailable reports whether HA looks after a VM.
func (j Work) highlyAvailable(ctx context.Context, vmid uint32) (bool, error) {
	text, err := j.read(ctx, "ha/resources.cfg")
	for line := range strings.Lines(text) {
		if strings.Join(strings.Fields(line), " ") == "vm: "+strconv.FormatUint(uint64(vmid), 10) {
			return true, err
		}
	}
	return false, err
}

// purge takes a VM out of HA and of backup jobs.
func (j Work) purge(ctx context.Context) error {
	id := strconv.FormatUint(uint64(j.VMID), 10)
	resources, err := j.read(ctx, "ha/resources.cfg")
	if err != nil {
		return err
	}
	if err := j.replace(ctx, "ha/resources.cfg", resources, withoutSection(resources, "vm: "+id)); err != nil {
		return err
	}
	rules, err := j.read(ctx, "ha/rules.cfg")
	if err != nil {
		return err
	}
	if err := j.replace(ctx, "ha/rules.cfg", rules, withoutMember(rules, "resources", "vm:"+id)); err != nil {
		return err
	}
	jobs, err := j.read(ctx, "jobs.cfg")
	if err != nil {
		return err
	}
	return j.replace(ctx, "jobs.cfg", jobs, withoutMember(jobs, "vmid", id))
}

func (j Work) replace(ctx context.Context, path, before, after string) error {
	if before == after {
		return nil
	}
	j.Log.Printf("remove VM %d from %s", j.VMID, path)
	return j.Write(ctx, path, after)
}

// withoutSection removes the section with a header, up to the next header.
func withoutSection(text, header string) string {
	var b strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		if line[0] != ' ' && line[0] != '\t' && strings.TrimSpace(line) != "" {
			skip = strings.Join(strings.Fields(line), " ") == header
		}
		if !skip {
			b.WriteString(line)
		}
	}
	return b.String()
}

// withoutMember removes a member from the list that a key of any section has; a
// list of which nothing is left takes its section with it.
func withoutMember(text, key, member string) string {
	empty, header := []string{}, ""
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		indented := line[0] == ' ' || line[0] == '\t'
		switch {
		case !indented && len(fields) > 0:
			header = strings.Join(fields, " ")
		case indented && len(fields) == 2 && fields[0] == key:
			members := schema.SplitList(fields[1])
			rest := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == member })
			if len(rest) == 0 {
				empty = append(empty, header)
			}
			if len(rest) < len(members) {
				line = "\t" + key + " " + strings.Join(rest, ",") + "\n"
			}
		}
		b.WriteString(line)
	}
	text = b.String()
	for _, header := range empty {
		text = withoutSection(text, header)
	}
	return text
}
