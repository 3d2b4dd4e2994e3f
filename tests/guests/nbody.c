/*
 * Moves the sun and four planets under their gravity, in steps of a hundredth of a day. Argument: how
 * many steps. Prints the energy of the bodies, which must stay about the same.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "elapsed.h"

enum { BODIES = 5 };

struct body {
  double place[3], speed[3], mass;
};

static const double SOLAR_MASS = 4 * M_PI * M_PI, DAYS = 365.24, STEP = 0.01;

/* Places in astronomical units, speeds in units a day, masses in suns. */
static struct body bodies[BODIES] = {
    {{0, 0, 0}, {0, 0, 0}, 1},
    {{4.84143144246472090, -1.16032004402742839, -0.103622044471123109},
     {0.00166007664274403694, 0.00769901118419740425, -0.0000690460016972063023},
     0.000954791938424326609},
    {{8.34336671824457987, 4.12479856412430479, -0.403523417114321381},
     {-0.00276742510726411, 0.00499852801234917238, 0.0000230417297573763929},
     0.000285885980666130812},
    {{12.8943695621391310, -15.1111514016986312, -0.223307578892655734},
     {0.00296460137564761618, 0.00237847173959480950, -0.0000296589568540237556},
     0.0000436624404335156298},
    {{15.3796971148509165, -25.9193146099879641, 0.179258772950371181},
     {0.00268067772490389322, 0.00162824170038242295, -0.0000951592254519715870},
     0.0000515138902046611451},
};

static void prepare(void) {
  double momentum[3] = {0};
  for (int i = 0; i < BODIES; i++) {
    bodies[i].mass *= SOLAR_MASS;
    for (int axis = 0; axis < 3; axis++) {
      bodies[i].speed[axis] *= DAYS;
      momentum[axis] += bodies[i].speed[axis] * bodies[i].mass;
    }
  }
  for (int axis = 0; axis < 3; axis++) bodies[0].speed[axis] = -momentum[axis] / SOLAR_MASS;
}

static void advance(void) {
  for (int i = 0; i < BODIES; i++) {
    struct body *one = &bodies[i];
    for (int j = i + 1; j < BODIES; j++) {
      struct body *other = &bodies[j];
      double x = one->place[0] - other->place[0], y = one->place[1] - other->place[1],
             z = one->place[2] - other->place[2];
      double square = x * x + y * y + z * z;
      double pull = STEP / (square * sqrt(square));
      one->speed[0] -= x * other->mass * pull;
      one->speed[1] -= y * other->mass * pull;
      one->speed[2] -= z * other->mass * pull;
      other->speed[0] += x * one->mass * pull;
      other->speed[1] += y * one->mass * pull;
      other->speed[2] += z * one->mass * pull;
    }
  }
  for (int i = 0; i < BODIES; i++)
    for (int axis = 0; axis < 3; axis++) bodies[i].place[axis] += STEP * bodies[i].speed[axis];
}

static double energy(void) {
  double sum = 0;
  for (int i = 0; i < BODIES; i++) {
    const struct body *one = &bodies[i];
    double square = 0;
    for (int axis = 0; axis < 3; axis++) square += one->speed[axis] * one->speed[axis];
    sum += one->mass * square / 2;
    for (int j = i + 1; j < BODIES; j++) {
      double distance = 0;
      for (int axis = 0; axis < 3; axis++) {
        double apart = one->place[axis] - bodies[j].place[axis];
        distance += apart * apart;
      }
      sum -= one->mass * bodies[j].mass / sqrt(distance);
    }
  }
  return sum;
}

int main(int argc, char **argv) {
  long steps = argc > 1 ? atol(argv[1]) : 1000;
  char result[64];
  prepare();
  uint64_t begin = now_ns();
  for (long i = 0; i < steps; i++) advance();
  snprintf(result, sizeof result, "%.9f", energy());
  return tell(result, begin);
}
