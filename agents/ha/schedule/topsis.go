package schedule

import "math"

// figures describe how well loads are spread over a cluster; less is better:
// 1 + root mean square and 1 + maximum, first of CPU, then of memory.
type figures [4]float64

// weights say how much each figure counts. Memory outweighs CPU, as a node
// out of memory kills guests; the worst node outweighs the mean.
var weights = figures{1. / 18, 2. / 18, 5. / 18, 10. / 18}

// describe returns the figures of a cluster with the given loads.
func describe(loads []load) figures {
	var f figures
	for _, l := range loads {
		f[0] += l.cpu * l.cpu
		f[1] = max(f[1], l.cpu)
		f[2] += l.mem * l.mem
		f[3] = max(f[3], l.mem)
	}
	n := float64(len(loads))
	return figures{1 + math.Sqrt(f[0]/n), 1 + f[1], 1 + math.Sqrt(f[2]/n), 1 + f[3]}
}

// rate orders alternatives by TOPSIS (technique for order of preference by
// similarity to ideal solution). Ratings are between 0 and 1, higher is better.
func rate(alternatives []figures) []float64 {
	var norm, best, worst figures
	for _, f := range alternatives {
		for i, v := range f {
			norm[i] += v * v
		}
	}
	weighted := make([]figures, len(alternatives))
	for a, f := range alternatives {
		for i, v := range f {
			if n := math.Sqrt(norm[i]); n != 0 {
				v /= n
			}
			v *= weights[i]
			weighted[a][i] = v
			if a == 0 || v < best[i] {
				best[i] = v
			}
			if a == 0 || v > worst[i] {
				worst[i] = v
			}
		}
	}
	ratings := make([]float64, len(alternatives))
	for a, f := range weighted {
		if b, w := distance(f, best), distance(f, worst); b+w != 0 {
			ratings[a] = w / (b + w)
		}
	}
	return ratings
}

func distance(a, b figures) float64 {
	var sum float64
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(sum)
}
